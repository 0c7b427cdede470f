"""`python -m pipelines` is the command line, where the script `tierloom` is not on the PATH."""

from pipelines.cli import main

if __name__ == "__main__":
    main()
