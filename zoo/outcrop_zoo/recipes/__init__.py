"""Training recipes: everything that determines a zoo model's weights, as data."""

from outcrop_zoo.architectures.architecture import Architecture
from outcrop_zoo.recipes.collection import recipes
from outcrop_zoo.recipes.recipe import Recipe

__all__ = ["Architecture", "Recipe", "recipes"]
