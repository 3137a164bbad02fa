package main

import (
	"github.com/spf13/cobra"

	"bundlefs/internal/deploy"
)

func newInstallCommand(a *app) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "install [NODE…]",
		Short: "run [jobs:install] in the open bundle",
		Long: `Install runs the steps of [jobs:install] in their order and halts at the first
one that is not OK. The bundle stays open and mounted: mend what is wrong, and
go on with --from STEP.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := a.nodesOrOpen(args)
			if err != nil {
				return err
			}
			return runJobs(cmd.Context(), a, o, sel, deploy.Install)
		},
	}
	o.flags(cmd)
	return cmd
}
