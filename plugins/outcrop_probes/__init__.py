"""What synthetic inputs provoke in the layers of a network."""
