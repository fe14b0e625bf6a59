base:
  '*':
    - castoff
