package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// A config is what files and the environment say of registries: where they are, which to trust, who we are to them. Safe for
// concurrent use.
type config struct {
	env        func(string) string
	registries []registryRule
	search     []string
	certDirs   []string
	auths      func() ([]*authFile, error) // read when the first registry asks for a credential
}

// readConfig reads registries.conf, as environment variables and the home directory have it. Files
// with credentials and certificates are read when they are needed.
func readConfig(env func(string) string) (*config, error) {
	c := &config{env: env, certDirs: []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}}
	if home := userConfig(env); home != "" {
		c.certDirs = append([]string{filepath.Join(home, "containers/certs.d")}, c.certDirs...)
	}
	c.auths = sync.OnceValues(c.readAuthFiles)
	if err := c.readRegistries(); err != nil {
		return nil, err
	}
	return c, nil
}

// userConfig is $XDG_CONFIG_HOME, or "" for somebody without a home.
func userConfig(env func(string) string) string {
	if dir := env("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return dir
	}
	if home := env("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".config")
	}
	return ""
}

// maxConfigFile bounds what is read of any file of configuration, in bytes.
const maxConfigFile = 4 << 20

// readSmall reads a file of configuration; a file that is not there is nil.
func readSmall(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxConfigFile {
		return nil, fmt.Errorf("%s: is no file of less than 4 MiB", path)
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return raw, err
}

// tls makes the TLS configuration for a registry of what its certs.d directories hold: *.crt are authorities to trust,
// NAME.cert and NAME.key a client's certificate.
func (c *config) tls(host string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if strings.ContainsAny(host, `/\`) || strings.HasPrefix(host, ".") {
		return conf, nil
	}
	for _, base := range c.certDirs {
		dir := filepath.Join(base, host)
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // not there, or somebody else's: as if it said nothing
		}
		for _, e := range entries {
			if err := addCertificate(conf, filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
		return conf, nil // the first directory counts
	}
	return conf, nil
}

func addCertificate(conf *tls.Config, path string) error {
	switch filepath.Ext(path) {
	case ".crt":
		raw, err := readSmall(path)
		if err != nil {
			return err
		}
		if conf.RootCAs == nil {
			if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
				conf.RootCAs = x509.NewCertPool()
			}
		}
		if !conf.RootCAs.AppendCertsFromPEM(raw) {
			return fmt.Errorf("%s: holds no certificate", path)
		}
	case ".cert":
		key := strings.TrimSuffix(path, ".cert") + ".key"
		pair, err := tls.LoadX509KeyPair(path, key)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		conf.Certificates = append(conf.Certificates, pair)
	}
	return nil
}
