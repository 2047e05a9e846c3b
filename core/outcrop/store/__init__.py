"""The study on disk: one zarr group that holds data, activations and results, readable by plain xarray."""
