include:
  - castoff.install
  - castoff.image
