"""Other programs' models: read from what each program writes, matched to targets, judged on one scale with ours."""
