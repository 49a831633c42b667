package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/forge-build/forge/container/words"
)

// ParseSecret reads docker's --secret id=ID[,src=FILE|env=VAR][,type=file|env]. Without a source it is the variable ID, if
// that is set, else the file ID.
func ParseSecret(spec string) (secret Secret, err error) {
	kind := ""
	err = words.Attributes(spec, func(key, value string) error {
		switch strings.ToLower(key) {
		case "id":
			secret.ID = value
		case "src", "source":
			secret.File = value
		case "env":
			secret.Env = value
		case "type":
			kind = value
		default:
			return fmt.Errorf("no such field: %q; must be id, src, env or type", key)
		}
		return nil
	})
	switch {
	case err != nil:
		return secret, fmt.Errorf("--secret %q: %w", spec, err)
	case secret.ID == "":
		return secret, fmt.Errorf("--secret %q: has no id", spec)
	case kind != "" && kind != "file" && kind != "env":
		return secret, fmt.Errorf("--secret %q: type %q: must be file or env", spec, kind)
	case kind == "env" && secret.Env == "":
		secret.Env, secret.File = secret.File, ""
	}
	if secret.Env == "" && secret.File == "" {
		if _, ok := os.LookupEnv(secret.ID); ok && kind != "file" || kind == "env" {
			secret.Env = secret.ID
		} else {
			secret.File = secret.ID
		}
	}
	// One that is not there is an error now: the step that needs it may come late.
	if secret.File != "" {
		if _, err := os.Stat(secret.File); errors.Is(err, fs.ErrNotExist) {
			return secret, fmt.Errorf("--secret %q: %w", spec, err)
		}
	}
	return secret, nil
}

// ParseSSH reads docker's --ssh ID[=SOCKET|KEY[,KEY…]]; without a source it is the agent at $SSH_AUTH_SOCK.
func ParseSSH(spec string) (SSHSource, error) {
	id, paths, _ := strings.Cut(spec, "=")
	source := SSHSource{ID: id}
	switch {
	case id == "":
		return source, fmt.Errorf("--ssh %q: has no ID", spec)
	case paths != "":
		source.Paths = strings.Split(paths, ",")
	case os.Getenv("SSH_AUTH_SOCK") == "":
		return source, fmt.Errorf("--ssh %s: SSH_AUTH_SOCK is not set; start ssh-agent, or name a key: --ssh %s=FILE", spec, id)
	}
	for _, path := range source.Paths {
		if _, err := os.Stat(path); err != nil {
			return source, fmt.Errorf("--ssh %s: %w", spec, err)
		}
	}
	return source, nil
}
