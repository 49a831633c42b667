package forge

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/forge-build/forge/bake"
	"github.com/forge-build/forge/internal/durable"
)

// A BakeFile is what bake files describe; a BakeTarget is one target of it, with all that it inherits; a BakeVariable is declared there.
type (
	BakeFile     = bake.File
	BakeTarget   = bake.Target
	BakeVariable = bake.Variable
)

// ReadBake reads bake files: those that have their usual names in this directory, if none is named. vars come before the environment.
func ReadBake(ctx context.Context, files []string, stdin io.Reader, vars map[string]string) (*BakeFile, error) {
	return bake.Read(bake.Options{
		Files: files, Stdin: Input(ctx, stdin), Vars: vars, Getenv: bakeEnvironment(), Platform: BuildPlatform(),
		Open: func(name string) (io.ReadCloser, error) {
			f, err := durable.Input(ctx, name)
			if missing, ok := errors.AsType[*fs.PathError](err); ok {
				missing.Op = "open"
			}
			return f, err
		},
	})
}

// IsBakeFile reports whether a file is a bake file by its name.
func IsBakeFile(name string) bool { return bake.IsFile(name) }

// bakeEnvironment is where variables come from; nowhere, if BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP says so.
func bakeEnvironment() func(string) (string, bool) {
	switch os.Getenv("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP") {
	case "1", "t", "T", "true", "TRUE", "True":
		return nil
	}
	return os.LookupEnv
}
