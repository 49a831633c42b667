package container

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/forge-build/forge/internal/durable"
)

// maxEnvLine is how long a line of a file of variables may be, in bytes. The kernel takes no variable of more than 128 KiB.
const maxEnvLine = 1 << 20

// ParseEnv reads docker's --env-file and --env, in this order. A name without a value takes the value of forge's own
// environment. If that has none, the name of a flag takes the image's variable away, and the name in a file means nothing.
func ParseEnv(ctx context.Context, files, flags []string) ([]string, error) {
	var env []string
	for _, file := range files {
		list, err := readEnvFile(ctx, file)
		if err != nil {
			return nil, err
		}
		env = append(env, list...)
	}
	for _, s := range flags {
		name, _, ok := strings.Cut(s, "=")
		if name == "" {
			return nil, fmt.Errorf("variable %q: has no name", s)
		}
		if value, set := os.LookupEnv(name); !ok && set {
			s = name + "=" + value
		}
		env = append(env, s)
	}
	return env, nil
}

// readEnvFile reads a file of variables, one a line, as docker does.
func readEnvFile(ctx context.Context, name string) (env []string, err error) {
	f, err := durable.Input(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxEnvLine)
	n := 0
	for lines.Scan() {
		n++
		line := lines.Bytes()
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")) // a byte order mark
		}
		kv, err := envLine(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		if kv != "" {
			env = append(env, kv)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("%s:%d: the line has more than %d bytes", name, n+1, maxEnvLine)
	} else if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return env, nil
}

// envLine reads a line of a file of variables; "" is none.
func envLine(text []byte) (string, error) {
	if !utf8.Valid(text) {
		return "", errors.New("the line is not UTF-8")
	}
	line := strings.TrimLeft(string(text), " \t")
	if line == "" || line[0] == '#' {
		return "", nil
	}
	name, _, ok := strings.Cut(line, "=")
	switch {
	case name == "":
		return "", fmt.Errorf("no variable name on line %q", line)
	case strings.ContainsFunc(name, unicode.IsSpace):
		return "", fmt.Errorf("variable %q contains whitespaces", name)
	case ok:
		return line, nil
	}
	if value, ok := os.LookupEnv(name); ok {
		return name + "=" + value, nil
	}
	return "", nil
}
