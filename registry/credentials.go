package registry

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// hubKey is the name under which files and helpers keep Docker Hub's credential.
const hubKey = "https://index.docker.io/v1/"

// An authFile is Docker's config.json or podman's auth.json.
type authFile struct {
	path        string               // for messages
	Auths       map[string]authEntry `json:"auths"`
	CredHelpers map[string]string    `json:"credHelpers"`
	CredsStore  string               `json:"credsStore"`
}

type authEntry struct {
	Auth          string `json:"auth,omitempty"` // base64 of name:password
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

// readAuthFiles reads what there is, in the order in which it is asked.
func (c *config) readAuthFiles() ([]*authFile, error) {
	var files []*authFile
	if text := c.env("DOCKER_AUTH_CONFIG"); text != "" {
		f, err := parseAuthFile("DOCKER_AUTH_CONFIG", []byte(text))
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	for _, path := range authPaths(c.env) {
		raw, err := readSmall(path)
		if err != nil {
			return nil, err
		}
		if len(raw) == 0 {
			continue
		}
		f, err := parseAuthFile(path, raw)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// authPaths are where files of credentials may be, in the order in which they are asked.
func authPaths(env func(string) string) []string {
	paths := []string{env("REGISTRY_AUTH_FILE"), dockerConfigPath(env)}
	for _, dir := range []string{env("XDG_RUNTIME_DIR"), userConfig(env)} {
		if dir != "" {
			paths = append(paths, filepath.Join(dir, "containers/auth.json"))
		}
	}
	return slices.DeleteFunc(paths, func(p string) bool { return p == "" })
}

// dockerConfigPath is where docker login writes, or "" for somebody without a home.
func dockerConfigPath(env func(string) string) string {
	if dir := DockerConfigDir(env); dir != "" {
		return filepath.Join(dir, "config.json")
	}
	return ""
}

// DockerConfigDir is where docker's command line keeps its configuration: DOCKER_CONFIG, else .docker in HOME; "" for somebody without
// a home. env looks up variables.
func DockerConfigDir(env func(string) string) string {
	if dir := env("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	if home := env("HOME"); home != "" {
		return filepath.Join(home, ".docker")
	}
	return ""
}

func parseAuthFile(path string, raw []byte) (*authFile, error) {
	f := &authFile{path: path}
	if err := json.Unmarshal(raw, f); err != nil {
		// The decoder's error may quote what it read, which may be a password.
		return nil, fmt.Errorf("%s: is not a JSON file of credentials", path)
	}
	return f, nil
}

// credential finds what a registry knows us by, the empty Credential if nothing is said. repo is a repository of it: podman
// keeps credentials for parts of a registry, too.
func (c *config) credential(ctx context.Context, registry, repo string) (Credential, error) {
	files, err := c.auths()
	if err != nil {
		return Credential{}, err
	}
	keys := authKeys(registry, repo)
	for _, f := range files {
		cred, err := f.find(ctx, keys)
		if err != nil || !cred.empty() {
			return cred, err
		}
	}
	return Credential{}, nil
}

// authKeys are the names under which a credential may be kept, the most particular first.
func authKeys(registry, repo string) []string {
	hosts := []string{registry}
	if registry == "docker.io" || registry == "index.docker.io" || registry == dockerHub {
		hosts = []string{"docker.io", "index.docker.io", dockerHub}
	}
	var keys []string
	for path := repo; path != ""; {
		for _, h := range hosts {
			keys = append(keys, h+"/"+path)
		}
		i := strings.LastIndexByte(path, '/')
		path = path[:max(i, 0)]
	}
	return append(keys, hosts...)
}

// serverKey is the name under which docker and its helpers keep a registry's credential.
func serverKey(registry string) string {
	if apiHost(registry) == dockerHub {
		return hubKey
	}
	return registry
}

// hostKey is what a key of an auths table names: https://index.docker.io/v1/ is index.docker.io.
func hostKey(key string) string {
	rest, ok := strings.CutPrefix(key, "https://")
	if !ok {
		rest, ok = strings.CutPrefix(key, "http://")
	}
	if ok {
		rest, _, _ = strings.Cut(rest, "/")
	}
	return strings.TrimSuffix(rest, "/")
}

func (f *authFile) find(ctx context.Context, keys []string) (Credential, error) {
	server := serverKey(keys[len(keys)-1])
	for _, key := range append(slices.Clone(keys), server) {
		if helper := f.CredHelpers[key]; helper != "" {
			cred, err := helperGet(ctx, helper, server)
			if err != nil || !cred.empty() {
				return cred, err
			}
		}
	}
	// Two keys may name one host: sorted, the choice does not depend on the order of a map.
	for _, key := range keys {
		names := make([]string, 0, 1)
		for name := range f.Auths {
			if name == key || hostKey(name) == key {
				names = append(names, name)
			}
		}
		slices.SortFunc(names, func(a, b string) int {
			return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
		})
		for _, name := range names {
			cred, err := f.Auths[name].credential()
			if err != nil {
				return cred, fmt.Errorf("%s: entry %q: %w", f.path, name, err)
			}
			if !cred.empty() {
				return cred, nil
			}
		}
	}
	if f.CredsStore == "" {
		return Credential{}, nil
	}
	return helperGet(ctx, f.CredsStore, server)
}

func (e authEntry) credential() (Credential, error) {
	c := Credential{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}
	if e.Auth == "" {
		return c, nil
	}
	raw, err := base64.StdEncoding.DecodeString(e.Auth)
	if err != nil {
		return Credential{}, fmt.Errorf("auth is not base64")
	}
	name, password, ok := strings.Cut(string(raw), ":")
	if !ok {
		return Credential{}, fmt.Errorf("auth is not name:password")
	}
	c.Username, c.Password = name, strings.TrimRight(password, "\x00")
	return c, nil
}
