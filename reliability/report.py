def write_report(run, plan, folder):
    pass
