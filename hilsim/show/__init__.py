"""What a person sees: metrics of a trace, dashboard, report, plots and exports. Nothing here changes a run."""
