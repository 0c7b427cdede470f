"""Is a model Matryoshka? Measured on vectors of a corpus, whatever the model's label says."""
