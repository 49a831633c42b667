package reapitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/forge-build/forge/internal/reapi"
)

// Process is a worker that executes commands as processes of this machine, each in a directory of its own below dir.
func Process(dir string, prepare func(cmd *exec.Cmd)) func(ctx context.Context, t *Task) (*reapi.ActionResult, error) {
	return func(ctx context.Context, t *Task) (r *reapi.ActionResult, err error) {
		root, err := os.MkdirTemp(dir, "action-")
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
		if t.dir = dir; dir == "" {
			t.dir = os.TempDir()
		}
		if err := t.unpack(t.Action.Input, root); err != nil {
			return nil, describe(t, err)
		}
		var out, said bytes.Buffer
		run := func() (*exec.Cmd, error) {
			cmd := exec.CommandContext(ctx, t.Command.Arguments[0], t.Command.Arguments[1:]...)
			cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = root, []string{}, &out, &said
			for _, v := range t.Command.Env {
				cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
			}
			if prepare != nil {
				prepare(cmd)
			}
			return cmd, cmd.Run()
		}
		cmd, err := run()
		for errors.Is(err, syscall.ETXTBSY) && ctx.Err() == nil {
			time.Sleep(time.Millisecond) // a process was forked while the program was written, and has it open until it executes something
			cmd, err = run()
		}
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && (!exited || ctx.Err() != nil) {
			return nil, describe(t, err)
		}
		return t.collect(root, cmd.ProcessState.ExitCode(), out.Bytes(), said.Bytes())
	}
}

// unpack writes a directory of the action.
func (t *Task) unpack(d *reapi.Digest, dir string) error {
	var list reapi.Directory
	if !t.Server.Message(d, &list) {
		return errors.New("a directory is not there")
	}
	for _, f := range list.Files {
		mode := os.FileMode(0o444)
		if f.Executable {
			mode = 0o555
		}
		if err := t.file(*f.Digest, filepath.Join(dir, f.Name), mode); err != nil {
			return err
		}
	}
	for _, sub := range list.Directories {
		name := filepath.Join(dir, sub.Name)
		if err := errors.Join(os.Mkdir(name, 0o755), t.unpack(sub.Digest, name)); err != nil {
			return err
		}
	}
	return nil
}

// file writes a file of the action. As other servers do, it keeps one copy and gives it to all.
func (t *Task) file(d reapi.Digest, name string, mode os.FileMode) error {
	kept := filepath.Join(t.dir, fmt.Sprintf("%s.%o", d.Hash, mode))
	if os.Link(kept, name) == nil {
		return nil
	}
	data := t.Server.Blob(d)
	if err := os.WriteFile(name, data, mode); err != nil || len(data) < 1<<16 {
		return err
	}
	if err := os.Link(name, kept); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// collect stores what the command has made.
func (t *Task) collect(dir string, code int, out, said []byte) (*reapi.ActionResult, error) {
	r := &reapi.ActionResult{ExitCode: int32(code), Stdout: out, Stderr: said}
	for _, name := range t.Command.Paths {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		d := t.Server.Put(data)
		r.Files = append(r.Files, reapi.OutputFile{Path: name, Digest: &d})
	}
	return r, nil
}
