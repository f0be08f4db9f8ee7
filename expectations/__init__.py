"""The knowing: frames and arrays only; never a file, a model or Prefect."""
