"""What can be wrong with what is to be measured; each text says what is wrong and the rule."""

from __future__ import annotations


class CannotMeasure(RuntimeError):
    """Something given to the measurement cannot be used; the text is written for the user."""


class MissingPackage(CannotMeasure):
    """A package or a file of weights that a figure needs is not installed."""


class TooFewPictures(CannotMeasure):
    """There are not enough pictures for a figure to mean anything."""


class UnreadablePicture(CannotMeasure):
    """A file with the name of a picture is none."""


class UnreadableCaptions(CannotMeasure):
    """A caption file has no form that is accepted."""


class CaptionsDoNotMatch(CannotMeasure):
    """A caption file names other pictures than the folder holds."""
