package forge

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/registry"
)

// WriteDockerContext makes a context of docker's command line, by which that finds an engine at an address such as
// "unix:///run/forge/docker.sock". One of that name is changed.
func WriteDockerContext(name, host string) error {
	if err := words.CheckName(name); err != nil || name == "default" {
		return fmt.Errorf("%q is no name for a context of docker", name)
	}
	config := registry.DockerConfigDir(os.Getenv)
	if config == "" {
		return errors.New("no place for the context: neither DOCKER_CONFIG nor HOME is set")
	}
	type endpoint struct {
		Host          string
		SkipTLSVerify bool
	}
	raw, err := json.Marshal(struct {
		Name      string
		Metadata  struct{ Description string }
		Endpoints map[string]endpoint
	}{name, struct{ Description string }{"forge, through its Engine API"}, map[string]endpoint{"docker": {Host: host}}})
	if err != nil {
		return err
	}
	dir := filepath.Join(config, "contexts/meta", digest.FromString(name).Encoded())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, "meta.json"), raw, 0o644)
}
