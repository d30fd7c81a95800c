# A Hub's configuration as in Zero to JupyterHub's chart (4.4): what it sets before ours, its names, and how it loads files.
# ruff: noqa: F821
import glob
import os

c = get_config()

c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.ConfigurableHTTPProxy.api_url = os.environ["PROXY_API"]
c.ConfigurableHTTPProxy.should_start = False
c.JupyterHub.cleanup_servers = False
c.JupyterHub.allow_named_servers = True
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
c.JupyterHub.db_url = "sqlite://"
c.JupyterHub.hub_bind_url = os.environ["HUB_URL"]
common_labels = c.KubeSpawner.common_labels = {"app": "jupyterhub", "release": "hub"}
c.KubeSpawner.namespace = "jupyter"
c.Spawner.consecutive_failure_limit = 5
c.KubeSpawner.start_timeout = 1200
c.KubeSpawner.extra_labels = {"hub.jupyter.org/network-access-hub": "true"}
c.KubeSpawner.uid = 1000
c.KubeSpawner.fs_gid = 100
c.KubeSpawner.image = "quay.io/jupyterhub/k8s-singleuser-sample:4.4.0"
tolerations = c.KubeSpawner.tolerations = [{"key": "hub.jupyter.org/dedicated", "operator": "Equal", "value": "user"}]
volumes = {"site": {"name": "site", "emptyDir": {}}}
volume_mounts = {"0-site": {"name": "site", "mountPath": "/site"}}
c.KubeSpawner.volumes = volumes
c.KubeSpawner.volume_mounts = volume_mounts
c.JupyterHub.services = [{"name": "site", "api_token": "site-token-of-the-tests"}]
c.JupyterHub.load_roles = [{"name": "site", "services": ["site"], "scopes": ["list:users", "read:hub"]}]
c.Spawner.cmd = "jupyterhub-singleuser"
c.Spawner.default_url = "/tree"
c.JupyterHub.cookie_secret = b"1" * 32
c.CryptKeeper.keys = ["2" * 64]
c.JupyterHub.update({"admin_access": True, "authenticator_class": "dummy"})
c.GitHubOAuthenticator.update({"client_id": "id", "client_secret": "secret", "scope": ["read:packages"]})

names_before = set(globals())
config_dir = os.environ["CONFIG_D"]
for file_path in sorted(glob.glob(f"{config_dir}/*.py")):  # noqa: PTH207
    with open(file_path) as f:  # noqa: PTH123
        file_content = f.read()
    exec(compile(source=file_content, filename=os.path.basename(file_path), mode="exec"))  # noqa: PTH119

# hub.extraConfig comes last.
ours = set(globals()) - names_before - {"file_path", "f", "file_content", "config_dir", "names_before"}
exec('assert ours == {"sys", "labhands_hub"}, ours')
