"""Lin, Bal and Sengupta 2024: spiking convergent networks."""
