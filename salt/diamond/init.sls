# Diamond: a program, its configuration, its service. What the node measures, and where that goes, is data of the pillar.
include:
  - diamond.install
  - diamond.config
  - diamond.rbd
  - diamond.service
