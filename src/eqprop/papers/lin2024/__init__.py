"""Lin, Bal and Sengupta 2024: EP in spiking convolutional networks."""
