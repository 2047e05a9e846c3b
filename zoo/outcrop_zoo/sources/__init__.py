"""Where the file or the weights of a zoo model come from: a file beside its card, the web, a package, a recipe."""
