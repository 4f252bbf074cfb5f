#!/bin/sh
# Provisions one VM of the Vagrantfile: provision.sh NAME ADDRESS CONTROL-PLANE-ADDRESS TOKEN
# Installs this tree under /opt/podwire, starts the control plane on `cp` and an agent on each node. The nodes fetch their
# credentials from the control plane over the VMs' private network, encrypted with the token that the Vagrantfile made.
set -eu
name=$1 address=$2 control_plane=$3
export JOIN_TOKEN=$4
server=https://$control_plane:6443

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends nodejs npm rsync
rsync -a --delete --exclude node_modules --exclude dist /vagrant/ /opt/podwire/
cd /opt/podwire
npm run setup

unit() { # unit NAME DESCRIPTION COMMAND...
  unit_name=$1 description=$2; shift 2
  cat > "/etc/systemd/system/podwire-$unit_name.service" <<EOF
[Unit]
Description=$description
After=network-online.target containerd.service
[Service]
ExecStart=$*
Restart=always
RestartSec=1
KillMode=process
[Install]
WantedBy=multi-user.target
EOF
  systemctl daemon-reload
  systemctl enable --now "podwire-$unit_name"
}

podwire=/opt/podwire/dist/bin/podwire
pki=/etc/podwire/pki

if [ "$name" = cp ]; then
  $podwire pki --dir $pki --server "$server" --san 10.96.0.1 \
    --node node1=192.168.56.11 --node node2=192.168.56.12
  unit apiserver "podwire API server" $podwire apiserver --data-dir /var/lib/podwire/store --pki-dir $pki \
    --listen 0.0.0.0:6443 --advertise-address "$address" --service-cidr 10.96.0.0/16
  unit controllers "podwire controllers" $podwire controllers --kubeconfig $pki/controller-manager.conf \
    --scheduler-kubeconfig $pki/scheduler.conf --cluster-cidr 10.244.0.0/16
  kubectl --kubeconfig $pki/admin.conf apply -f examples/hello.yaml
  # The nodes' credentials, encrypted, for half an hour.
  install -d -m 700 /run/podwire-join
  for node in node1 node2; do
    tar -C $pki -c "kubelet-$node.conf" "kubelet-$node.crt" "kubelet-$node.key" kube-proxy.conf ca.crt |
      openssl enc -aes-256-cbc -pbkdf2 -pass env:JOIN_TOKEN -out "/run/podwire-join/$node.tar.enc"
  done
  systemd-run --unit podwire-join --property RuntimeMaxSec=1800 \
    busybox httpd -f -p "$address:8099" -h /run/podwire-join
  exit 0
fi

# A node: its credentials, its own images, the agent beside Debian's containerd.
install -d -m 700 $pki
until wget -q -O /run/podwire-join.enc "http://$control_plane:8099/$name.tar.enc"; do sleep 2; done
openssl enc -d -aes-256-cbc -pbkdf2 -pass env:JOIN_TOKEN -in /run/podwire-join.enc | tar -C $pki -x
rm /run/podwire-join.enc
install -d /etc/containerd
containerd config default | sed -e 's#sandbox_image = .*#sandbox_image = "localhost/podwire/pause:1"#' \
  -e 's#conf_dir = .*#conf_dir = "/var/lib/podwire/agent/net.d"#' \
  -e 's#bin_dir = .*#bin_dir = "/opt/podwire/dist/cni"#' > /etc/containerd/config.toml
install -d /etc/systemd/system/containerd.service.d
printf '[Service]\nEnvironment=PODWIRE_CNI_SOCKET=/var/lib/podwire/agent/cni.sock\n' \
  > /etc/systemd/system/containerd.service.d/podwire.conf
systemctl daemon-reload
systemctl restart containerd
$podwire images --output /tmp/images.tar
ctr --namespace k8s.io images import /tmp/images.tar
unit agent "podwire agent" $podwire agent --kubeconfig "$pki/kubelet-$name.conf" --proxy-kubeconfig $pki/kube-proxy.conf \
  --node-name "$name" --node-ip "$address" --serving-cert "$pki/kubelet-$name.crt" --serving-key "$pki/kubelet-$name.key" \
  --client-ca $pki/ca.crt --cluster-cidr 10.244.0.0/16 --service-cidr 10.96.0.0/16
