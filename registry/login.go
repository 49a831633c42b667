package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/flock"
)

// Login asks the registry whether it knows cred and, if so, keeps it where docker does: with the credential helper that
// config.json names for it, or in config.json itself. An identity token that the registry gives is kept instead of the
// password. domain is docker.io or host[:port]. It returns the file, or "" if a helper keeps the credential.
func (c *Client) Login(ctx context.Context, domain string, cred Credential) (file string, err error) {
	identity, err := c.Verify(ctx, domain, cred)
	if err != nil {
		return "", err
	}
	if identity != "" {
		cred.Password, cred.IdentityToken = "", identity
	}
	conf, err := c.config()
	if err != nil {
		return "", err
	}
	return conf.keep(ctx, domain, cred)
}

// Verify asks the registry whether it knows cred, and keeps nothing. It returns the identity token that the registry gives to be used
// instead of the password; "" if it gives none. An error is fs.ErrPermission if the registry does not know cred.
func (c *Client) Verify(ctx context.Context, domain string, cred Credential) (identity string, err error) {
	conf, err := c.config()
	if err != nil {
		return "", err
	}
	// A client of its own: what was remembered of this registry is about other credentials.
	opts := c.opts
	opts.config, opts.Credential, opts.Credentials = conf, &cred, nil
	fresh := NewClient(opts)
	defer fresh.Close()
	o, err := fresh.origin(conf, place{domain: domain, insecure: conf.insecure(domain)})
	if err != nil {
		return "", err
	}
	if identity, err = o.auth.verify(ctx, cred); err != nil {
		var re *responseError
		if errors.As(err, &re) && re.Is(fs.ErrPermission) {
			re.Hint = "check the user name and the password"
		}
		return "", err
	}
	return identity, nil
}

// Logout forgets the registry's credential; false means that there was none.
func (c *Client) Logout(ctx context.Context, domain string) (bool, error) {
	conf, err := c.config()
	if err != nil {
		return false, err
	}
	var had bool
	err = conf.edit(ctx, func(f *authFile, auths map[string]json.RawMessage) error {
		if name := f.helperFor(domain); name != "" {
			cred, err := helperGet(ctx, name, serverKey(domain))
			if err != nil {
				return err
			}
			if had = !cred.empty(); had {
				if err := helperErase(ctx, name, serverKey(domain)); err != nil {
					return err
				}
			}
		}
		for key := range auths {
			if hostKey(key) == domain || apiHost(hostKey(key)) == apiHost(domain) {
				delete(auths, key)
				had = true
			}
		}
		return nil
	})
	return had, err
}

func (f *authFile) helperFor(domain string) string {
	for _, key := range append(authKeys(domain, ""), serverKey(domain)) {
		if name := f.CredHelpers[key]; name != "" {
			return name
		}
	}
	return f.CredsStore
}

func (c *config) keep(ctx context.Context, domain string, cred Credential) (file string, err error) {
	err = c.edit(ctx, func(f *authFile, auths map[string]json.RawMessage) error {
		key := serverKey(domain)
		entry := authEntry{IdentityToken: cred.IdentityToken}
		if name := f.helperFor(domain); name != "" {
			if err := helperStore(ctx, name, key, cred); err != nil {
				return err
			}
			entry = authEntry{} // that there is one, as docker notes it
		} else {
			file = f.path
			entry.Auth = base64.StdEncoding.EncodeToString([]byte(cred.Username + ":" + cred.Password))
		}
		raw, err := json.Marshal(entry)
		auths[key] = raw
		return err
	})
	return file, err
}

// edit changes the auths of docker's config.json and keeps whatever else is in it. Two edits at once happen one after the
// other; the file is always whole.
func (c *config) edit(ctx context.Context, change func(*authFile, map[string]json.RawMessage) error) error {
	path := dockerConfigPath(c.env)
	if path == "" {
		return errors.New("no place for credentials: neither DOCKER_CONFIG nor HOME is set")
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // people link it from elsewhere: the link stays
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	lock, err := flock.LockDir(ctx, filepath.Dir(path), flock.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Close()

	raw, err := readSmall(path)
	if err != nil {
		return err
	}
	all, auths, f := map[string]json.RawMessage{}, map[string]json.RawMessage{}, &authFile{}
	if len(raw) > 0 {
		if f, err = parseAuthFile(path, raw); err != nil {
			return err
		}
		if err := json.Unmarshal(raw, &all); err != nil {
			return fmt.Errorf("%s: is not a JSON file of credentials", path)
		}
		if sub := all["auths"]; sub != nil {
			if err := json.Unmarshal(sub, &auths); err != nil || auths == nil {
				return fmt.Errorf("%s: its auths are no table", path)
			}
		}
	}
	f.path = path
	if err := change(f, auths); err != nil {
		return err
	}
	if all["auths"], err = json.Marshal(auths); err != nil {
		return err
	}
	out, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(out, '\n'), 0o600)
}
