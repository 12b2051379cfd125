"""What a trained model is worth, measured on images it has not learnt from."""
