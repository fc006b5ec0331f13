"""Studies: arms trained with several seeds and compared, the claims about them, their verdicts and the report.

The command line calls `run_studies`.
"""
