"""The networks as torch modules: encoders, the VSCG localizer and the baselines it is compared with.

Importing this package loads no torch; its modules do. They know no files, devices or streams.
"""
