package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// ReadProxies reads the proxy variables that docker's config.json has containers and builds use ("proxies", "default"), by name
// in upper and in lower case, as docker's command line passes them. Values may hold passwords. The file is where DOCKER_CONFIG
// and the home directory of this process say; one that is not there, or that this user may not read, names no proxies.
func ReadProxies() (map[string]string, error) { return readProxies(os.Getenv) }

func readProxies(env func(string) string) (map[string]string, error) {
	path := dockerConfigPath(env)
	if path == "" {
		return nil, nil
	}
	raw, err := readSmall(path)
	if errors.Is(err, fs.ErrPermission) || err == nil && len(raw) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var file struct {
		Proxies map[string]struct{ HTTPProxy, HTTPSProxy, NoProxy, FTPProxy, AllProxy string }
	}
	if json.Unmarshal(raw, &file) != nil { // whose error may quote a password
		return nil, fmt.Errorf("%s: is not JSON with strings for proxies, as docker has it", path)
	}
	p := file.Proxies["default"]
	proxies := map[string]string{}
	for name, value := range map[string]string{
		"HTTP_PROXY": p.HTTPProxy, "HTTPS_PROXY": p.HTTPSProxy, "NO_PROXY": p.NoProxy, "FTP_PROXY": p.FTPProxy, "ALL_PROXY": p.AllProxy,
	} {
		if value != "" {
			proxies[name], proxies[strings.ToLower(name)] = value, value
		}
	}
	return proxies, nil
}
