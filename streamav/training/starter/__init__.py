"""Makes the models in the package: encoders, localizer, cards."""
