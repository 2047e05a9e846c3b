"""Shared array functions: similarity, principal components and block detection."""
