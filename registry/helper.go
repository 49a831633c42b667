package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// helperTime is as long as a credential helper may take: it may have to ask a person.
const helperTime = 60 * time.Second

// tokenUser is the name under which helpers keep identity tokens.
const tokenUser = "<token>"

type helperRecord struct {
	ServerURL string
	Username  string
	Secret    string
}

// helperGet asks docker-credential-NAME for a registry's credential; one that it does not have is empty.
func helperGet(ctx context.Context, name, server string) (Credential, error) {
	out, err := helper(ctx, name, "get", []byte(server))
	if err != nil {
		if strings.Contains(string(out), "credentials not found") || strings.Contains(string(out), "no credentials server URL") {
			return Credential{}, nil
		}
		return Credential{}, err
	}
	var rec helperRecord
	if err := json.Unmarshal(out, &rec); err != nil {
		return Credential{}, fmt.Errorf("docker-credential-%s: its answer is not JSON", name)
	}
	if rec.Username == tokenUser {
		return Credential{IdentityToken: rec.Secret}, nil
	}
	return Credential{Username: rec.Username, Password: rec.Secret}, nil
}

func helperStore(ctx context.Context, name, server string, c Credential) error {
	rec := helperRecord{ServerURL: server, Username: c.Username, Secret: c.Password}
	if c.IdentityToken != "" {
		rec.Username, rec.Secret = tokenUser, c.IdentityToken
	}
	in, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	_, err = helper(ctx, name, "store", in)
	return err
}

func helperErase(ctx context.Context, name, server string) error {
	out, err := helper(ctx, name, "erase", []byte(server))
	if err != nil && strings.Contains(string(out), "credentials not found") {
		return nil
	}
	return err
}

// helper runs docker-credential-NAME VERB (docker's credential helper protocol).
func helper(ctx context.Context, name, verb string, in []byte) ([]byte, error) {
	if name == "" || strings.ContainsAny(name, "/\\") || strings.HasPrefix(name, ".") {
		return nil, fmt.Errorf("credential helper %q: is not a name", name)
	}
	ctx, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker-credential-"+name, verb)
	var out, errOut limitedBuffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errOut
	// What it has started ends with it, and could otherwise hold the pipe.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		return nil, fmt.Errorf("docker-credential-%s %s: no answer within %s", name, verb, helperTime)
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("docker-credential-%s: is not installed, and the configuration wants it for this registry", name)
	case err != nil:
		// Helpers say on standard output what is wrong; a secret is only there when they succeed.
		return out.Bytes(), fmt.Errorf("docker-credential-%s %s: %s (%w)", name, verb, oneLine(out.String()+" "+errOut.String()), err)
	}
	return out.Bytes(), nil
}

// A limitedBuffer takes up to 1 MiB.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > 1<<20 {
		return 0, io.ErrShortBuffer
	}
	return b.Buffer.Write(p)
}
