base:
  '*':
    - rbd
  # The lab's own minion also gets what an application would write into the volume: see salt/demo.
  'lab':
    - demo
