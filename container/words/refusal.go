package words

import "fmt"

// A RefusedError is docker's refusal of what cannot be done in the state that things are in.
type RefusedError string

// Error is docker's text.
func (e RefusedError) Error() string { return string(e) }

// Refused is a RefusedError with a text as fmt.Sprintf makes it.
func Refused(format string, args ...any) error { return RefusedError(fmt.Sprintf(format, args...)) }

// An InvalidError is docker's refusal of what can never be done, in no state.
type InvalidError string

// Error is docker's text.
func (e InvalidError) Error() string { return string(e) }

// Invalid is an InvalidError with a text as fmt.Sprintf makes it.
func Invalid(format string, args ...any) error { return InvalidError(fmt.Sprintf(format, args...)) }

// A ForbiddenError is docker's refusal of what is not to be done to a thing that is needed as it is.
type ForbiddenError string

// Error is docker's text.
func (e ForbiddenError) Error() string { return string(e) }

// Forbidden is a ForbiddenError with a text as fmt.Sprintf makes it.
func Forbidden(format string, args ...any) error { return ForbiddenError(fmt.Sprintf(format, args...)) }

// Refusal is what docker says when a verb meets a container in a state that it cannot be done in; nil if it can. The ref is
// the container's name as the user gave it.
func Refusal(verb, ref, id, status string) error {
	stopped := status != "running" && status != "paused" && status != "restarting"
	switch verb {
	case "attach":
		switch {
		case stopped:
			return Refused("cannot attach to a stopped container, start it first")
		case status == "paused":
			return Refused("cannot attach to a paused container, unpause it first")
		case status == "restarting":
			return Refused("cannot attach to a restarting container, wait until it is running")
		}
	case "exec", "pause", "top":
		switch {
		case stopped:
			return Refused("container %s is not running", id)
		case status == "restarting":
			return Refused("Container %s is restarting, wait until the container is running", id)
		case status == "paused" && verb == "exec":
			return Refused("Container %s is paused, unpause the container before exec", id)
		case status == "paused" && verb == "pause":
			return Refused("Container %s is already paused", id)
		}
	case "unpause":
		if status != "paused" {
			return Refused("Container %s is not paused", id)
		}
	case "kill":
		if stopped {
			return Refused("cannot kill container: %s: container %s is not running", ref, id)
		}
	case "start":
		switch status {
		case "paused":
			return Refused("cannot start a paused container, try unpause instead")
		case "removing", "dead":
			return Refused("container is marked for removal and cannot be started")
		}
	case "rm":
		switch {
		case status == "paused":
			return Refused("cannot remove container %q: container is paused and must be unpaused first", ref)
		case !stopped:
			return Refused("cannot remove container %q: container is %s: stop the container before removing or force remove", ref, status)
		}
	}
	return nil
}
