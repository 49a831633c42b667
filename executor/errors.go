package executor

import (
	"fmt"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/planner"
)

// A StepError means that a step could not be done.
type StepError struct {
	Step     *planner.Step
	Err      error
	ExitCode int    // of the step's command; 0 if it was not a command that failed
	Tail     []byte // the last lines that it printed
	Job      *Job   // what could not be done; nil if what it needs was not known yet
	Excerpt  string // lines of the build file, those of the step marked

	why   *event.Why
	usage *event.Usage
}

func (e *StepError) Error() string {
	const most = 100 // the lines of the build file say the rest
	name := []rune(e.Step.Name)
	if len(name) > most {
		name = append(name[:most-1], '…')
	}
	return fmt.Sprintf("%s: %s: %v", e.Step.Span, string(name), e.Err)
}

func (e *StepError) Unwrap() error { return e.Err }

// An ExitError means that a command ran and did not succeed. Workers return it.
type ExitError struct {
	Code int   `json:"code"`          // 128 and the signal if one ended it
	OOM  bool  `json:"oom,omitempty"` // the kernel ended it for want of memory
	Err  error `json:"-"`             // what more is known of it, such as why it could not be executed; may be nil
}

func (e *ExitError) Error() string {
	if e.OOM {
		return fmt.Sprintf("exit code %d: out of memory", e.Code)
	}
	if e.Err != nil {
		return fmt.Sprintf("exit code %d: %v", e.Code, e.Err)
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

func (e *ExitError) Unwrap() error { return e.Err }
