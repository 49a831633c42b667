package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/forge-build/forge"
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
	flags      func() any // a new kong struct with a method Run(*session) error
}

// tags are what kong is to know of a command: those that scripts call are not in the help.
func (c command) tags() []string {
	if strings.HasPrefix(c.name, "__") {
		return []string{`hidden:""`}
	}
	return nil
}

// a is a new flags of a command.
func a[Flags any]() any { return new(Flags) }

// commands are all there are, in the order of the help.
func commands() []command {
	return slices.Concat(buildCommands(), containerCommands(), otherCommands())
}

// buildCommands are those that build, and look after what builds leave.
func buildCommands() []command {
	return []command{
		{"build", "Build an image from a Dockerfile.", a[buildCmd]},
		{"bake", "Build many images together, as a bake file or a compose file says.", a[bakeCmd]},
		{"executor", "Build as kaniko does, with its flags.", a[executorCmd]},
		{"bud", "Build as buildah does, with its flags; also build-using-dockerfile.", a[budCmd]},
		{"build-using-dockerfile", "The same.", a[budCmd]},
		{"cache", "Look after what builds of several machines share.", a[cacheCmd]},
		{"builds", "Look back at the last builds: their logs, and how they ended.", a[buildsCmd]},
	}
}

// containerCommands are the verbs of containers.
func containerCommands() []command {
	return []command{
		{"run", "Run a command in a new container.", a[runCmd]},
		{"create", "Make a container.", a[createCmd]},
		{"start", "Start containers.", a[startCmd]},
		{"stop", "Stop containers.", a[stopCmd]},
		{"restart", "Restart containers.", a[restartCmd]},
		{"kill", "Send containers a signal.", a[killCmd]},
		{"wait", "Wait until containers end, and print their exit statuses.", a[waitCmd]},
		{"exec", "Run a command in a running container.", a[execCmd]},
		{"logs", "Show what a container has written.", a[logsCmd]},
		{"attach", "Attach to a running container.", a[attachCmd]},
		{"pause", "Stop all processes of containers for a while.", a[pauseCmd]},
		{"unpause", "Let the processes of paused containers go on.", a[unpauseCmd]},
		{"top", "List the processes of a running container.", a[topCmd]},
		{"stats", "Show what containers use.", a[statsCmd]},
		{"update", "Change the limits of containers.", a[updateCmd]},
		{"events", "Show what happens to containers, images, networks and volumes.", a[eventsCmd]},
		{"rename", "Give a container another name.", a[renameCmd]},
		{"rm", "Remove containers.", a[rmCmd]},
		{"cp", "Copy files between a container and this machine.", a[cpCmd]},
		{"port", "List the ports of a container that are published.", a[portCmd]},
		{"diff", "List what a container has changed in its file system.", a[diffCmd]},
		{"commit", "Make an image of a container.", a[commitCmd]},
		{"export", "Write a container's file system as a tar.", a[exportCmd]},
		{"ps", "List containers.", a[psCmd]},
		{"container-prune", "Remove all stopped containers; also container prune.", a[containerPruneCmd]},
		{"image-prune", "Remove images that nothing uses; also image prune.", a[imagePruneCmd]},
	}
}

// otherCommands are of images, registries and the program itself.
func otherCommands() []command {
	return []command{
		{"images", "List images.", a[imagesCmd]},
		{"tag", "Give an image another name.", a[tagCmd]},
		{"rmi", "Remove images.", a[rmiCmd]},
		{"inspect", "Show everything about containers, images, networks and volumes, as JSON.", a[inspectCmd]},
		{"history", "Show how an image was made.", a[historyCmd]},
		{"save", "Write images to an archive.", a[saveCmd]},
		{"load", "Read images from an archive.", a[loadCmd]},
		{"import", "Make an image of a root file system's tar.", a[importCmd]},
		{"pull", "Copy an image from a registry into the store.", a[pullCmd]},
		{"push", "Copy an image from the store to its registry.", a[pushCmd]},
		{"search", "Look for images on Docker Hub, or on another registry.", a[searchCmd]},
		{"network", "Look after networks.", a[networkCmd]},
		{"login", "Log in to a registry.", a[loginCmd]},
		{"logout", "Log out of a registry.", a[logoutCmd]},
		{"copy", "Copy an image between registries, layouts and archives, without the store.", a[copyCmd]},
		{"registry", "Serve a registry.", a[registryCmd]},
		{"volume", "Look after volumes.", a[volumeCmd]},
		{"system", "Look after the store.", a[systemCmd]},
		{"worker", "Do one job of another machine, in a directory that holds what it needs.", a[workerCmd]},
		{"buildx", "Look after the builder and its cache, under buildx's names.", a[buildxCmd]},
		{"api", "Serve Docker's Engine API, for docker, compose and what else speaks it.", a[apiCmd]},
		{"context", "Say where forge works, under docker's names.", a[contextCmd]},
		{"info", "Show how forge works on this machine, and why.", a[infoCmd]},
		{"completion", "Print what makes a shell complete command lines of forge.", a[completionCmd]},
		{"__complete", "Say what can stand in the place of the last word.", a[completeCmd]},
		{"__man", "Write the manual.", a[manCmd]},
		{"version", "Show the version.", a[versionCmd]},
	}
}

// grammar is the parser of a command line. It knows only the command that is asked for: to learn the flags of all takes longer
// than many a command.
func grammar(c *cli, args []string) (*kong.Kong, error) {
	asked := ""
	if at := commandAt(args); at < len(args) {
		asked = args[at]
	}
	known := commands()
	if asked != "" {
		known = slices.DeleteFunc(known, func(c command) bool { return c.name != asked })
	}
	return newGrammar(c, asked, known)
}

// newGrammar is the parser of command lines with these commands.
func newGrammar(c *cli, asked string, known []command) (*kong.Kong, error) {
	options := []kong.Option{
		kong.Name("forge"), kong.NoDefaultHelp(), kong.Bind(c),
		kong.Description("Builds container images from Dockerfiles, and runs them. No daemon."),
		kong.Help(printHelp), kong.ValueFormatter(helpText), kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
		kong.KindMapper(reflect.String, kong.MapperFunc(keepBytes)), kong.NamedMapper("path", kong.MapperFunc(keepPath)),
	}
	for _, c := range known {
		options = append(options, kong.DynamicCommand(c.name, c.help, "", c.flags(), c.tags()...))
	}
	k, err := kong.New(c, options...)
	if err == nil {
		shortFlags(k, asked)
	}
	return k, err
}

// shortFlags gives --help and --version one letter where no command has another use for it: -h is a container's host name, -v a
// volume.
func shortFlags(k *kong.Kong, asked string) {
	for _, f := range k.Model.Flags {
		switch {
		case f.Name == "help" && !hasHostName(asked):
			f.Short = 'h'
		case f.Name == "version" && asked == "":
			f.Short = 'v'
		}
	}
}

// hasHostName reports whether -h of a command is a container's host name.
func hasHostName(asked string) bool { return asked == "run" || asked == "create" }

// commandAt is where the command stands among arguments, behind the flags that go before every command; len(args) if there is none.
func commandAt(args []string) int {
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--store" || args[i] == "--snapshotter":
			i++ // its value
		case !strings.HasPrefix(args[i], "-"):
			return i
		}
	}
	return len(args)
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

// keepPath is keepBytes for the name of a file, of which ~ is the home directory.
func keepPath(ctx *kong.DecodeContext, target reflect.Value) error {
	err := keepBytes(ctx, target)
	if name := target.String(); name != "-" {
		target.SetString(kong.ExpandPath(name))
	}
	return err
}

// helpFlag is kong's help without its -h: see shortFlags.
type helpFlag bool

// BeforeReset prints the usage as soon as the flag is met.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	return printed(ctx, ctx.PrintUsage(false))
}

// versionFlag is forge version for those who ask with a flag.
type versionFlag bool

// BeforeReset prints the version as soon as the flag is met.
func (versionFlag) BeforeReset(ctx *kong.Context) error {
	_, err := fmt.Fprintln(ctx.Stdout, versionLine())
	return printed(ctx, err)
}

// printed ends the program after what a flag prints. If that could not be written the command line is not at fault: the exit status is that of
// any command whose output was lost.
func printed(ctx *kong.Context, err error) error {
	if err != nil {
		return &failure{status: 1, err: err}
	}
	ctx.Exit(0)
	return nil
}
