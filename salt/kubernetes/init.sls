# Manifests for the volumes of the pillar rbd, for the CSI driver of the cluster of the pillar ceph. kubectl apply -f takes the folder.
{% set kubernetes = pillar.get('kubernetes') or {} %}
{{ kubernetes.get('folder', '/etc/kubernetes/rbd') | json }}:
  kubernetes_manifests.present: []
