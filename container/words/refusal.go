package words

import (
	"errors"
	"fmt"
)

// Refusal is what docker says when a verb meets a container in a state that it cannot be done in; nil if it can. The ref is
// the container's name as the user gave it.
func Refusal(verb, ref, id, status string) error {
	stopped := status != "running" && status != "paused" && status != "restarting"
	switch verb {
	case "attach":
		switch {
		case stopped:
			return errors.New("cannot attach to a stopped container, start it first")
		case status == "paused":
			return errors.New("cannot attach to a paused container, unpause it first")
		case status == "restarting":
			return errors.New("cannot attach to a restarting container, wait until it is running")
		}
	case "exec", "pause", "top":
		switch {
		case stopped:
			return fmt.Errorf("container %s is not running", id)
		case status == "restarting":
			return fmt.Errorf("Container %s is restarting, wait until the container is running", id) //nolint:staticcheck // docker's words
		case status == "paused" && verb == "exec":
			return fmt.Errorf("Container %s is paused, unpause the container before exec", id) //nolint:staticcheck // docker's words
		case status == "paused" && verb == "pause":
			return fmt.Errorf("Container %s is already paused", id) //nolint:staticcheck // docker's words
		}
	case "unpause":
		if status != "paused" {
			return fmt.Errorf("Container %s is not paused", id) //nolint:staticcheck // docker's words
		}
	case "kill":
		if stopped {
			return fmt.Errorf("cannot kill container: %s: container %s is not running", ref, id)
		}
	case "start":
		switch status {
		case "paused":
			return errors.New("cannot start a paused container, try unpause instead")
		case "removing", "dead":
			return errors.New("container is marked for removal and cannot be started")
		}
	case "rm":
		switch {
		case status == "paused":
			return fmt.Errorf("cannot remove container %q: container is paused and must be unpaused first", ref)
		case !stopped:
			return fmt.Errorf("cannot remove container %q: container is %s: stop the container before removing or force remove", ref, status)
		}
	}
	return nil
}
