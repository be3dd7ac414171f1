"""Let Griffe read the project's ``Example:`` as what it calls ``Examples:``, a section of code.

Griffe takes ``Example:`` for a box of running text, in which ``>>>`` would become quotations.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Renames the section in every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the section of one object.

        Args:
            obj: a module, class, function or attribute.
            kwargs: not needed.
        """
        if obj.docstring is not None:
            obj.docstring.value = renamed(obj.docstring.value)


def renamed(text: str) -> str:
    r"""A docstring with the section's other name.

    Example:
        >>> renamed("Add.\n\nExample:\n    >>> 1 + 1\n    2")
        'Add.\n\nExamples:\n    >>> 1 + 1\n    2'
    """
    return re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
