"""What training minimises and what is reported: the ELBO and importance-weighted bounds."""
