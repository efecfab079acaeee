"""The paper export's files, rows and figure, which ``PaperExport`` writes while a run goes on."""
