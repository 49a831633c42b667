package main

import (
	"encoding/json"
	"errors"
	"fmt"
)

// contextCmd are docker's commands for the daemons that it can speak to. forge speaks to none: it is at work where it is called,
// which is docker's context "default".
type contextCmd struct {
	LS      contextLSCmd      `cmd:"" name:"ls" aliases:"list" help:"List contexts: there is one."`
	Show    contextShowCmd    `cmd:"" help:"Print the name of the context."`
	Inspect contextInspectCmd `cmd:"" help:"Show the context, as JSON."`
	Use     contextUseCmd     `cmd:"" help:"Accept the name of the one context."`
	Create  contextMakeCmd    `cmd:"" hidden:""`
	Update  contextMakeCmd    `cmd:"" hidden:""`
	RM      contextMakeCmd    `cmd:"" name:"rm" aliases:"remove" hidden:""`
	Export  contextMakeCmd    `cmd:"" hidden:""`
	Import  contextMakeCmd    `cmd:"" hidden:""`
}

// theContext is docker's name of the context that is always there.
const theContext = "default"

func checkContext(name string) error {
	if name == "" || name == theContext {
		return nil
	}
	return fmt.Errorf("context %q: context not found: forge has no daemon and one context, %s", name, theContext)
}

type contextLSCmd struct {
	Format string `help:"A Go template, or json." placeholder:"TEMPLATE"`
	Quiet  bool   `short:"q" help:"Only names."`
}

// A contextRow is what a template of `forge context ls --format` sees, under docker's names and in docker's order.
type contextRow struct {
	Current                                  bool
	Description, DockerEndpoint, Error, Name string
}

func (c *contextLSCmd) Run(s *session) error {
	format := tableOr(c.Format, "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}")
	if c.Quiet {
		format = "{{.Name}}"
	}
	rows := []contextRow{{Current: true, Description: "This machine, without a daemon", Name: theContext}}
	return printRows(s, format, rows, contextRow{false, "DESCRIPTION", "DOCKER ENDPOINT", "ERROR", "NAME"})
}

type contextShowCmd struct{}

func (c *contextShowCmd) Run(s *session) error {
	_, err := fmt.Fprintln(s.out, theContext)
	return err
}

type contextInspectCmd struct {
	Format string   `short:"f" help:"A Go template instead of JSON." placeholder:"TEMPLATE"`
	Names  []string `arg:"" optional:"" help:"Names." placeholder:"CONTEXT"`
}

// Run shows docker's fields, of which forge has little to say.
func (c *contextInspectCmd) Run(s *session) error {
	if len(c.Names) == 0 {
		c.Names = []string{theContext}
	}
	list, errs := []any(nil), []error(nil)
	for _, name := range c.Names {
		if err := checkContext(name); err != nil {
			errs = append(errs, err)
			continue
		}
		var fields map[string]any
		err := json.Unmarshal([]byte(`{"Name":"default","Metadata":{},"Endpoints":{},"TLSMaterial":{},"Storage":{"MetadataPath":"<IN MEMORY>","TLSPath":"<IN MEMORY>"}}`), &fields)
		list, errs = append(list, fields), append(errs, err)
	}
	show := inspectCmd{Format: c.Format}
	return errors.Join(append(errs, show.print(s, list))...)
}

type contextUseCmd struct {
	Name string `arg:"" help:"Name." placeholder:"CONTEXT"`
}

func (c *contextUseCmd) Run(s *session) error {
	if err := checkContext(c.Name); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(s.out, theContext)
	_, err := fmt.Fprintf(s.err, "Current context is now %q\n", theContext)
	return err
}

// contextMakeCmd are commands that have nothing to make or to change.
type contextMakeCmd struct {
	Args []string `arg:"" optional:"" passthrough:""`
}

func (c *contextMakeCmd) Run() error {
	return fmt.Errorf("forge has no daemon to speak to: it has one context, %s, and none can be made, changed or removed", theContext)
}
