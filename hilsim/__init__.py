"""hilsim: a language model split over two chips of one car, simulated before the board is on the desk."""

__version__ = "0.2.0"
