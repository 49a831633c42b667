package main

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"

	"github.com/forge-build/forge"
)

// workerCmd is what an executor of the Remote Execution API starts.
type workerCmd struct {
	Job string `arg:"" help:"File of the job. Layers are read from layers/ beside it; layer.tar and result.json are written there." placeholder:"JOB"`

	scratch string // store that is made for the job alone
}

// scratchStore is where the store of a job is, beside it.
const scratchStore = ".forge-worker"

// AfterApply gives a job a store of its own: the directory of a worker may be the only one that it can write to.
func (c *workerCmd) AfterApply(all *cli) error {
	if all.Store != "" {
		return nil
	}
	dir, err := filepath.Abs(filepath.Dir(c.Job))
	if err != nil {
		return err
	}
	c.scratch = filepath.Join(dir, scratchStore)
	all.Store = c.scratch
	return nil
}

func (c *workerCmd) Run(s *session) (err error) {
	if s.options.Scratch = c.scratch != ""; s.options.Scratch {
		defer func() { err = errors.Join(err, os.RemoveAll(c.scratch)) }()
	}
	return s.withHome(func(h *forge.Home) error {
		code, outcome, err := h.DoTask(s.ctx, c.Job, s.out)
		if err == nil {
			return nil
		}
		// Not every server keeps the files of a command that fails, so the last line of what it prints says what came of it.
		code = report(s.err, &failure{status: cmp.Or(code, 1), err: err})
		_, _ = s.err.Write(outcome)
		return status(code)
	})
}
