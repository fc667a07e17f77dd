"""freezecheck inside other people's trainers. Each module needs its own framework, and nothing here imports them."""
