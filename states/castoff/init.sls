include:
  - castoff.install
  - castoff.daemon
  - castoff.image
