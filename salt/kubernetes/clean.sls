# Takes the manifests away that Salt wrote, the Secret's among them. What Kubernetes has of them stays there: kubectl delete -f comes before this.
{% set kubernetes = pillar.get('kubernetes') or {} %}
{{ kubernetes.get('folder', '/etc/kubernetes/rbd') | json }}:
  kubernetes_manifests.absent: []
