package main

import (
	"fmt"
	"maps"
	"strings"

	"github.com/alecthomas/kong"
)

// examples are command lines that people would type, by command; a line after "# " says what the one below it does.
func examples() map[string][]string {
	all := buildExamples()
	for _, more := range []map[string][]string{containerExamples(), imageExamples(), nounExamples()} {
		maps.Copy(all, more)
	}
	return all
}

// buildExamples are of what builds, and of what builds leave.
func buildExamples() map[string][]string {
	return map[string][]string{
		"build": {
			"# the Dockerfile in this directory, as user/app:1.0", "forge build -t user/app:1.0 .",
			"# and push it, with a cache that other machines read", "forge build -t registry.example.com/app:1.0 --push --cache registry.example.com/app .",
			"# have a cluster do the steps that take long", "forge build -t user/app --remote grpcs://cluster.example.com --explain .",
			"# stop in a shell where a step has failed", "forge build --shell .",
		},
		"bake": {
			"# the group or target default of docker-bake.hcl or compose.yaml", "forge bake",
			"# two targets, pushed, with another value of a variable", "forge bake --push --var TAG=1.2 api web",
			"# what has changed since the branch began", "forge bake --affected=main",
		},
		"builds ls":              {"forge builds", "forge builds ls -q"},
		"builds logs":            {"# all of the last build", "forge builds logs", "# its third step", "forge builds logs ^0 3"},
		"builds trace":           {"# of the last build", "forge builds trace timeline.html", "forge builds trace 4f2d trace.json"},
		"builds rm":              {"forge builds rm 4f2d", "forge builds rm ^1"},
		"builds prune":           {"forge builds prune", "forge builds prune --keep 5"},
		"executor":               {"forge executor --context /workspace --destination registry.example.com/app:1.0 --cache", "forge executor -c git://example.com/app.git -d registry.example.com/app:1.0 --digest-file digest"},
		"bud":                    {"forge bud -t user/app .", "forge bud --layers --tls-verify=false -t user/app -f Containerfile ."},
		"build-using-dockerfile": {"forge build-using-dockerfile -t user/app .", "forge build-using-dockerfile --format oci -t user/app ."},
		"worker":                 {"# the job of this directory: its layer becomes layer.tar", "forge worker job.json", "# with a store on a faster disk, which keeps nothing of it", "forge --store /dev/shm/forge worker /work/job.json"},
		"cache ls":               {"forge cache ls registry.example.com/app", "forge cache ls --format json type=local,src=cache"},
		"cache inspect":          {"forge cache inspect registry.example.com/app:main", "forge cache inspect --format json registry.example.com/app:main"},
		"cache push":             {"forge cache push registry.example.com/app:main", "forge cache push --cache-key key.pem registry.example.com/app:main"},
		"cache pull":             {"forge cache pull registry.example.com/app:main", "forge cache pull --cache-trust key.pub registry.example.com/app:main"},
		"cache prune":            {"forge cache prune registry.example.com/app:main", "forge cache prune --cache-scope old-branch registry.example.com/app"},
	}
}

// containerExamples are of the verbs of containers.
func containerExamples() map[string][]string {
	return map[string][]string{
		"run": {
			"# a shell that is gone when it ends", "forge run --rm -it debian:12 bash",
			"# a server in the background, at port 8080 of this machine", "forge run -d --name web -p 8080:80 -v data:/srv nginx",
		},
		"create":          {"forge create --name db -v db:/var/lib/postgresql/data postgres:16", "forge create -it debian:12 bash"},
		"start":           {"forge start web", "forge start -ai shell"},
		"stop":            {"forge stop web", "# give it a minute before SIGKILL", "forge stop -t 60 db"},
		"restart":         {"forge restart web", "forge restart -t 1 web worker"},
		"kill":            {"forge kill web", "forge kill -s HUP web"},
		"wait":            {"forge wait job", "forge wait job1 job2"},
		"exec":            {"forge exec -it web sh", "forge exec -e DEBUG=1 -w /srv web ls -l"},
		"logs":            {"forge logs -f --tail 100 web", "forge logs --since 10m -t web"},
		"attach":          {"forge attach shell", "forge attach --no-stdin web"},
		"pause":           {"forge pause web", "forge pause web worker"},
		"unpause":         {"forge unpause web", "forge unpause web worker"},
		"top":             {"forge top web", "forge top web -o pid,comm"},
		"stats":           {"forge stats", "forge stats --no-stream --format json web"},
		"update":          {"forge update -m 512m --cpus 1.5 web", "forge update --restart unless-stopped web"},
		"events":          {"forge events --since 1h --until 0s", "forge events -f type=container -f event=die"},
		"rename":          {"forge rename web web-old", "forge rename 4f2d web"},
		"rm":              {"forge rm web", "# also if it runs, with the volumes that have no name", "forge rm -fv web"},
		"cp":              {"forge cp web:/etc/nginx/nginx.conf .", "forge cp -a site/. web:/srv"},
		"port":            {"forge port web", "forge port web 80/tcp"},
		"diff":            {"forge diff web", "forge diff 4f2d"},
		"commit":          {"forge commit shell user/app:try", "forge commit -c 'CMD [\"serve\"]' -m 'with curl' shell user/app:2"},
		"export":          {"forge export -o root.tar web", "forge export web"},
		"ps":              {"forge ps -a", "# the container that was made last", "forge ps -lq", "forge ps -f status=exited --format '{{.Names}}: {{.Status}}'"},
		"container-prune": {"forge container prune -f", "forge container prune --filter until=24h"},
	}
}

// imageExamples are of images, registries and the program itself.
func imageExamples() map[string][]string {
	return map[string][]string{
		"image-prune": {"forge image prune -f", "forge image prune -a --filter until=168h"},
		"images":      {"forge images", "forge images -f dangling=true -q", "forge images --tree"},
		"tag":         {"forge tag user/app:1.0 registry.example.com/app:1.0", "forge tag 4f2d9a user/app:good"},
		"rmi":         {"forge rmi user/app:1.0", "forge rmi -f 4f2d9a"},
		"inspect":     {"forge inspect web", "forge inspect -f '{{.State.ExitCode}}' job", "# what is in an image, if that was attached to it", "forge inspect --sbom user/app:1.0"},
		"history":     {"forge history user/app:1.0", "forge history --no-trunc -q user/app:1.0"},
		"save":        {"forge save -o app.tar user/app:1.0", "forge save user/app:1.0 user/db:1.0"},
		"load":        {"forge load -i app.tar", "forge load -q -i app.tar.gz"},
		"import":      {"forge import rootfs.tar.xz user/base:1", "forge import -c 'CMD [\"/bin/sh\"]' rootfs.tar user/base:1"},
		"pull":        {"forge pull debian:12", "forge pull --platform linux/arm64 registry.example.com/app:1.0"},
		"push":        {"forge push registry.example.com/app:1.0", "forge push -a registry.example.com/app"},
		"search":      {"forge search nginx", "forge search -f is-official=true --limit 5 postgres", "forge search registry.example.com/app"},
		"login":       {"forge login registry.example.com", "# the password comes from standard input", "forge login -u ci --password-stdin registry.example.com"},
		"logout":      {"forge logout registry.example.com", "forge logout"},
		"copy":        {"forge copy debian:12 registry.example.com/debian:12", "forge copy user/app:1.0 oci:layout:1.0"},
		"info":        {"forge info", "forge info --format json"},
		"version":     {"forge version", "forge version --format json"},
		"completion":  {"forge completion bash", "forge completion fish"},
	}
}

// nounExamples are of commands that begin with a noun.
func nounExamples() map[string][]string {
	return map[string][]string{
		"network create":     {"forge network create back", "forge network create --subnet 10.10.0.0/24 --internal back"},
		"network ls":         {"forge network ls", "forge network ls -f driver=bridge -q"},
		"network inspect":    {"forge network inspect back", "forge network inspect -f '{{.Name}}' back"},
		"network rm":         {"forge network rm back", "forge network rm back front"},
		"network prune":      {"forge network prune -f", "forge network prune -f --filter until=24h"},
		"network connect":    {"forge network connect back web", "forge network connect --alias db back postgres"},
		"network disconnect": {"forge network disconnect back web", "forge network disconnect -f back web"},
		"network reload":     {"# after something has flushed the rules of the firewall", "forge network reload", "forge --store /srv/forge network reload"},
		"volume create":      {"forge volume create data", "forge volume create --opt type=nfs --opt device=:/export --opt o=addr=10.0.0.2,rw shared"},
		"volume ls":          {"forge volume ls", "forge volume ls -f dangling=true -q"},
		"volume inspect":     {"forge volume inspect data", "forge volume inspect -f '{{.Mountpoint}}' data"},
		"volume rm":          {"forge volume rm data", "forge volume rm -f data cache"},
		"volume prune":       {"forge volume prune -f", "forge volume prune -af"},
		"registry serve":     {"# on this machine only", "forge registry serve", "forge registry serve --addr :5000 --htpasswd users --tls-cert cert.pem --tls-key key.pem --ui"},
		"registry prune":     {"forge registry prune", "forge registry prune --root /srv/registry"},
		"api serve":          {"forge api", "# for the members of a group, who become root of this machine thereby", "forge api --socket /run/docker.sock --group docker"},
		"api unit":           {"forge api unit", "forge api unit --socket /run/docker.sock"},
		"api context":        {"forge api context", "forge api context --socket /run/docker.sock here"},
		"system fsck":        {"forge system fsck", "forge system fsck --repair"},
		"system prune":       {"# what nothing uses", "forge system prune -f", "forge system prune -af --filter until=168h"},
		"system df":          {"forge system df", "forge system df -v"},
		"system info":        {"forge system info", "forge system info --format json"},
		"system boot":        {"forge system boot", "forge --store /srv/forge system boot"},
		"system shutdown":    {"forge system shutdown", "forge --store /srv/forge system shutdown"},
		"system unit":        {"# all containers whose restart policy says so", "forge system unit", "forge system unit web"},
	}
}

// printHelp prints the usage of a command, and examples of it.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil {
		return err
	}
	node := ctx.Selected()
	if node == nil {
		return nil
	}
	lines := examples()[strings.TrimPrefix(wordsOf(node), "forge ")]
	if len(lines) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(ctx.Stdout, "\nExamples:\n  %s\n", strings.Join(lines, "\n  "))
	return err
}

// helpText is what the help says of a flag or an argument: also what it is if nothing is given, and which variable gives it.
func helpText(v *kong.Value) string {
	text := v.Help
	if v.HasDefault && v.Default != "" && v.Default != "0" && !v.IsBool() && !strings.Contains(text, v.Default) {
		text = strings.TrimSuffix(text, ".") + "; " + v.Default + " if not given."
	}
	if len(v.Tag.Envs) > 0 {
		text = strings.TrimSuffix(text, ".") + " ($" + strings.Join(v.Tag.Envs, ", $") + ")."
	}
	return text
}
