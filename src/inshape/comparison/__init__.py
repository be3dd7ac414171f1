"""Shapes, strategies and backbones measured on the user's own pictures, and one recommended."""
