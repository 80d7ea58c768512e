"""What the project claims about speed and equality, measured: `python -m lab.bench`.

Every figure is a ratio of two arms of one run that were taken in turns (A B B A), medians over the
rounds; A/A is the ratio that an arm has with itself, below which no difference means anything.
"""
