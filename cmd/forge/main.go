// Command forge builds container images from Dockerfiles, keeps them, moves them to and from registries and runs them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

// cli is what goes before every command.
type cli struct {
	Help        helpFlag          `help:"Show help."`
	ShowVersion versionFlag       `name:"version" hidden:"" help:"Show the version."`
	Store       string            `help:"State directory." placeholder:"DIR" env:"FORGE_ROOT"`
	Snapshotter forge.Snapshotter `help:"How layers are stacked: erofs, overlay or copy. Probed if not given." placeholder:"KIND" env:"FORGE_SNAPSHOTTER" enum:",erofs,overlay,copy" default:""`
}

// A command is a word of the command line; each is a file of its own.
type command struct {
	name, help string
	flags      any // a kong struct with a method Run(*session) error
}

// commands are all there are, in the order of the help.
func commands() []command {
	return []command{
		{"build", "Build an image from a Dockerfile.", &buildCmd{}},
		{"run", "Run a command in a new container.", &runCmd{}},
		{"create", "Make a container.", &createCmd{}},
		{"start", "Start containers.", &startCmd{}},
		{"stop", "Stop containers.", &stopCmd{}},
		{"restart", "Restart containers.", &restartCmd{}},
		{"kill", "Send containers a signal.", &killCmd{}},
		{"wait", "Wait until containers end, and print their exit statuses.", &waitCmd{}},
		{"exec", "Run a command in a running container.", &execCmd{}},
		{"logs", "Show what a container has written.", &logsCmd{}},
		{"attach", "Attach to a running container.", &attachCmd{}},
		{"pause", "Stop all processes of containers for a while.", &pauseCmd{}},
		{"unpause", "Let the processes of paused containers go on.", &unpauseCmd{}},
		{"top", "List the processes of a running container.", &topCmd{}},
		{"stats", "Show what containers use.", &statsCmd{}},
		{"update", "Change the limits of containers.", &updateCmd{}},
		{"events", "Show what happens to containers, images, networks and volumes.", &eventsCmd{}},
		{"rename", "Give a container another name.", &renameCmd{}},
		{"rm", "Remove containers.", &rmCmd{}},
		{"cp", "Copy files between a container and this machine.", &cpCmd{}},
		{"port", "List the ports of a container that are published.", &portCmd{}},
		{"diff", "List what a container has changed in its file system.", &diffCmd{}},
		{"commit", "Make an image of a container.", &commitCmd{}},
		{"export", "Write a container's file system as a tar.", &exportCmd{}},
		{"ps", "List containers.", &psCmd{}},
		{"container-prune", "Remove all stopped containers; also container prune.", &containerPruneCmd{}},
		{"image-prune", "Remove images that nothing uses; also image prune.", &imagePruneCmd{}},
		{"images", "List images.", &imagesCmd{}},
		{"tag", "Give an image another name.", &tagCmd{}},
		{"rmi", "Remove images.", &rmiCmd{}},
		{"inspect", "Show everything about containers, images, networks and volumes, as JSON.", &inspectCmd{}},
		{"history", "Show how an image was made.", &historyCmd{}},
		{"save", "Write images to an archive.", &saveCmd{}},
		{"load", "Read images from an archive.", &loadCmd{}},
		{"import", "Make an image of a root file system's tar.", &importCmd{}},
		{"pull", "Copy an image from a registry into the store.", &pullCmd{}},
		{"push", "Copy an image from the store to its registry.", &pushCmd{}},
		{"network", "Look after networks.", &networkCmd{}},
		{"login", "Log in to a registry.", &loginCmd{}},
		{"logout", "Log out of a registry.", &logoutCmd{}},
		{"copy", "Copy an image between registries, layouts and archives, without the store.", &copyCmd{}},
		{"registry", "Serve a registry.", &registryCmd{}},
		{"volume", "Look after volumes.", &volumeCmd{}},
		{"system", "Look after the store.", &systemCmd{}},
		{"info", "Show how forge works on this machine, and why.", &infoCmd{}},
		{"version", "Show the version.", &versionCmd{}},
	}
}

// grammar is the parser of a command line. It knows only the command that is asked for, if that is the first word: to
// learn the flags of all takes longer than many a command.
func grammar(c *cli, args []string) (*kong.Kong, error) {
	options := []kong.Option{
		kong.Name("forge"), kong.NoDefaultHelp(),
		kong.Description("Builds container images from Dockerfiles, and runs them. No daemon."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
		kong.KindMapper(reflect.String, kong.MapperFunc(keepBytes)),
	}
	all := commands()
	asked := slices.IndexFunc(all, func(c command) bool { return len(args) > 0 && c.name == args[0] })
	for i, c := range all {
		if asked < 0 || i == asked {
			options = append(options, kong.DynamicCommand(c.name, c.help, "", c.flags))
		}
	}
	return kong.New(c, options...)
}

// keepBytes takes a string as it was given. Kong would pass it through JSON, in which bytes that are no UTF-8 are lost.
func keepBytes(ctx *kong.DecodeContext, target reflect.Value) error {
	t, err := ctx.Scan.PopValue("string")
	if err != nil {
		return err
	}
	target.SetString(t.String())
	return nil
}

// limitMemory has few collections while little is in use, and many before more memory is touched than the work needs:
// peaks stay below 64 MB, or 96 MB where compressors and decompressors are at work.
func limitMemory(command string) {
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(72 << 20)
	if name, _, _ := strings.Cut(command, " "); name == "build" || name == "run" {
		debug.SetMemoryLimit(40 << 20)
	}
}

// helpFlag is kong's help without its -h, which docker's users know as the host name of a container.
type helpFlag bool

// BeforeReset prints the usage as soon as the flag is met.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	if err := ctx.PrintUsage(false); err != nil {
		return err
	}
	ctx.Exit(0)
	return nil
}

// versionFlag is forge version for those who ask with a flag.
type versionFlag bool

// BeforeReset prints the version as soon as the flag is met.
func (versionFlag) BeforeReset(ctx *kong.Context) error {
	_, err := fmt.Fprintln(ctx.Stdout, versionLine())
	ctx.Exit(0)
	return err
}

// A session is what every command is given.
type session struct {
	ctx      context.Context
	options  forge.Options
	signals  *signals
	in       *os.File
	out, err io.Writer
}

// open opens the store.
func (s *session) open() (*forge.Home, error) { return forge.Open(s.ctx, s.options) }

// withHome opens the store for do and closes it again.
func (s *session) withHome(do func(*forge.Home) error) (err error) {
	h, err := s.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return do(h)
}

func main() {
	if forge.IsMonitor() {
		os.Exit(forge.Monitor())
	}
	os.Exit(run(os.Args[1:]))
}

// enter makes an ordinary user root of a user namespace, where the command touches layers or containers. What keeps it from that
// matters only to what needs it: a build without RUN does not.
func enter(command, store string) error {
	switch name, _, _ := strings.Cut(command, " "); name {
	case "version", "login", "logout", "copy", "registry":
		return nil
	}
	return forge.EnterUserNamespace(store)
}

// usageStatus is what docker exits with when it, and not a command in a container, is at fault.
const usageStatus = 125

// run runs a command line.
func run(args []string) int {
	if len(args) > 0 && args[0] == "help" {
		args = append(slices.Clone(args[1:]), "--help")
	}
	args, err := withoutNoun(args)
	if err != nil {
		return report(os.Stderr, &usageError{usageStatus, err})
	}
	var c cli
	parser, err := grammar(&c, args)
	if err != nil {
		return report(os.Stderr, err)
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return reportUsage(os.Stderr, err)
	}
	// It executes this program again: all of this is done for a second time, and nothing else has been done before.
	confined := enter(parsed.Command(), c.Store)
	ctx, signals := newSignals(context.Background())
	defer signals.stop()
	s := &session{
		ctx:     ctx,
		options: forge.Options{Dir: c.Store, Snapshotter: c.Snapshotter, Command: commandName(parsed.Command())},
		signals: signals,
		in:      os.Stdin, out: os.Stdout, err: os.Stderr,
	}
	limitMemory(parsed.Command())
	err = parsed.Run(s)
	if err != nil && confined != nil && errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("%w; %w", err, confined)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return report(os.Stderr, err)
}

// reportUsage prints what is wrong with a command line and returns the exit status, which is docker's 1 where an argument is missing.
func reportUsage(w io.Writer, err error) int {
	text, code := err.Error(), usageStatus
	if missing, ok := strings.CutPrefix(text, "expected \"<"); ok {
		text, code = "an argument is missing: <"+strings.TrimSuffix(missing, "\""), 1
	}
	_, _ = fmt.Fprintf(w, "forge: %s\nsee forge --help\n", text)
	return code
}

// commandName is a command without its arguments, such as "system prune".
func commandName(command string) string {
	name, _, _ := strings.Cut(command, " <")
	return name
}

// A status is an error that has been told already, or needs no telling: only the exit status is left.
type status int

func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// report prints what went wrong and returns the exit status.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if s, ok := errors.AsType[status](err); ok {
		return int(s)
	}
	if i, ok := errors.AsType[*interrupt](err); ok {
		return 128 + int(i.signal)
	}
	_, _ = io.WriteString(w, "forge: "+strings.TrimRight(ui.Lines(explain(err)), "\n")+"\n")
	if u, ok := errors.AsType[*usageError](err); ok {
		return u.status
	}
	return 1
}

// A usageError is a mistake on the command line.
type usageError struct {
	status int
	err    error
}

func (u *usageError) Error() string { return u.err.Error() }

func (u *usageError) Unwrap() error { return u.err }
