"""Makes the models in the package: their encoders, localizers and cards."""
