package forge

import (
	"errors"

	"github.com/forge-build/forge/executor"
)

// A FailedStep is the error of a build of which a step failed.
type FailedStep struct {
	Build    string // its ID: for Home.Builds
	Step     int    // its number
	ExitCode int    // of its command; 0 if it was not a command that failed
	Excerpt  string // lines of the build file, those of the step marked
	err      error
}

func (f *FailedStep) Error() string { return f.err.Error() }

func (f *FailedStep) Unwrap() error { return f.err }

// failedStep is err, with more of the step that failed if one did.
func failedStep(build string, err error) error {
	failure, ok := errors.AsType[*executor.StepError](err)
	if !ok {
		return err
	}
	return &FailedStep{Build: build, Step: failure.Step.Number(), ExitCode: failure.ExitCode, Excerpt: failure.Excerpt, err: err}
}
