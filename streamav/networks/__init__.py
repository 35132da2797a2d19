"""The networks as torch modules: encoders, the VSCG localizer and the baselines it is compared with.

Importing this package does not import torch; its modules do. They handle no devices and no streams.
"""
