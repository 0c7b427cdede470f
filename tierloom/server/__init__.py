"""The query server: a collection behind HTTP, following a channel. Needs the extra `serve`.

    tierloom serve STORE --channel prod

`running` binds and stops it, `door` is what every request passes, `app` says which path does what.
"""
